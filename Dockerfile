# An image that transcribes on a CPU, without rights and without a network:
#
#     docker build --tag asr .
#     docker run --rm --network none --volume "$PWD:/data:ro" asr transcribe /data/digits-onnx /data/call.wav
#
# It takes exported models (`asr export`), and has no torch. With `--build-arg LOCK=requirements.lock` it has all there is.
FROM python:3.13-slim AS build
ARG LOCK=requirements-runtime.lock
WORKDIR /source
RUN python -m venv --without-pip /opt/asr && python -m venv /opt/tools
COPY tools/uv.lock tools/uv.lock
RUN /opt/tools/bin/pip install --no-cache-dir --require-hashes --requirement tools/uv.lock
COPY ${LOCK} packages.lock
RUN /opt/tools/bin/uv pip install --no-cache --python /opt/asr/bin/python --require-hashes --requirement packages.lock
COPY . .
RUN /opt/tools/bin/uv pip install --no-cache --python /opt/asr/bin/python --no-deps . \
    && /opt/asr/bin/python -m compileall -q /opt/asr

FROM python:3.13-slim
COPY --from=build /opt/asr /opt/asr
RUN useradd --create-home --uid 1000 asr
USER asr
WORKDIR /home/asr
ENV PATH=/opt/asr/bin:$PATH PYTHONUNBUFFERED=1
ENTRYPOINT ["asr"]
CMD ["--help"]
