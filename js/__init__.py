"""The npm package and the page, as they are installed with the Python package."""
