# The command without napari, for clusters and workflow managers:
#
#   docker build --tag patchset .
#   docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD:/data" patchset \
#       patchset export cells.czi --out cells.patches.zarr
#
# There is no entry point, since Nextflow and Snakemake start a shell of their own.

FROM python:3.12-slim-bookworm AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN python -m venv /opt/patchset \
    && /opt/patchset/bin/pip install --no-cache-dir '.[distributed,remote]'

FROM python:3.12-slim-bookworm
LABEL org.opencontainers.image.title="patchset" \
      org.opencontainers.image.description="Cut training patches out of microscope images" \
      org.opencontainers.image.licenses="BSD-3-Clause" \
      org.opencontainers.image.source="https://github.com/napari-patchset/napari-patchset"
# ps is what Nextflow measures processes with.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends procps=2:4.* \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/patchset /opt/patchset
# Any user may run it, one without a home too.
ENV PATH=/opt/patchset/bin:$PATH \
    HOME=/tmp
WORKDIR /data
USER 65534
CMD ["patchset", "--help"]
