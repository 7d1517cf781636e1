"""Rule prepare_manifest: vtclip.data.manifest.prepare_manifest."""

from vtclip.runtime.job import job

with job(snakemake.log[0]):
    from vtclip.data.manifest import prepare_manifest

    prepare_manifest(
        snakemake.params.dataset,
        snakemake.params.images,
        snakemake.output.manifest,
        receipt=snakemake.input.images or None,
    )
