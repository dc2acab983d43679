# The package with its commands, for a CPU. The image has about 1.9 GB, of which torch is 0.8.
#
#     docker build --tag attention-rnn .
#     docker run --rm --user "$(id -u)" --volume "$PWD:/work" attention-rnn train words.tsv
#     docker run --rm --user "$(id -u)" --volume "$PWD:/work" --interactive --tty attention-rnn predict runs/words
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
# whoever runs it may have no home and no name there
ENV PATH=/opt/venv/bin:$PATH HF_HOME=/tmp/huggingface MPLCONFIGDIR=/tmp/matplotlib USER=user
RUN useradd --create-home user
USER user
WORKDIR /work
ENTRYPOINT ["attention-rnn"]
CMD ["--help"]
