"""Rule prepare_manifest: vtclip.data.manifest.prepare_manifest."""

from vtclip.data.manifest import prepare_manifest
from vtclip.logs import job_log

with job_log(snakemake.log[0]):
    prepare_manifest(snakemake.params.dataset, snakemake.params.images, snakemake.output[0])
