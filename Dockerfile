# The package with its commands, for a CPU:
#
#     docker build --tag attention-rnn .
#     docker run --rm --volume "$PWD:/work" attention-rnn python -c "import attention_rnn"
FROM python:3.11-slim AS build
WORKDIR /source
# torch's CPU build, which is ten times smaller than the one for GPUs; first, so that it is not fetched again
COPY constraints.txt .
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu \
        "$(grep --max-count=1 '^torch==' constraints.txt)"
COPY pyproject.toml README.md LICENSE ./
COPY src src
COPY examples examples
COPY js js
# seqeval, of the train extra, needs both to be built
RUN /opt/venv/bin/pip install --no-cache-dir --constraint constraints.txt setuptools setuptools-scm \
    && /opt/venv/bin/pip install --no-cache-dir --constraint constraints.txt --no-build-isolation '.[train,plot]'

FROM python:3.11-slim
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH HF_HOME=/tmp/huggingface
RUN useradd --create-home user
USER user
WORKDIR /work
CMD ["python"]
