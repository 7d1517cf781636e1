"""Rule extract_texts: vtclip.features.extract.extract_texts."""

from vtclip.runtime.job import job

with job(snakemake.log[0], threads=snakemake.threads):
    from vtclip.backbones.backbone import load_backbone
    from vtclip.features.extract import extract_texts

    extract_texts(
        load_backbone(**snakemake.params.backbone, pretrained=snakemake.input.weights),
        snakemake.input.manifest,
        snakemake.params.templates,
        snakemake.output.features,
        exif=snakemake.params.exif,
        sentences=snakemake.params.sentences,
    )
