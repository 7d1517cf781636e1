"""Rule prepare_manifest: vtclip.data.manifest.prepare_manifest."""

from pathlib import Path

from vtclip.data.manifest import prepare_manifest
from vtclip.logs import job_log

with job_log(snakemake.log[0]):
    images = Path(snakemake.params.images)
    prepare_manifest(
        images / snakemake.params.split, images, snakemake.params.counts, snakemake.output[0]
    )
