"""Rule extract_validation: vtclip.features.extract.extract_validation."""

from vtclip.runtime.job import gpu_job

with gpu_job(snakemake.log[0], snakemake.config, threads=snakemake.threads) as device:
    from vtclip.backbones.backbone import load_backbone
    from vtclip.features.extract import extract_validation

    extract_validation(
        load_backbone(
            **snakemake.params.backbone, pretrained=snakemake.input.weights, device=device
        ),
        snakemake.input.manifest,
        snakemake.params.images,
        snakemake.output.features,
        batch_size=64,
        workers=snakemake.threads - 1,
        exif=snakemake.params.exif,
    )
