"""Rule extract_test: vtclip.features.extract.extract_test."""

from vtclip.runtime.job import gpu_job

with gpu_job(snakemake.log[0], snakemake.config, threads=snakemake.threads) as device:
    from vtclip.backbones.backbone import load_backbone
    from vtclip.features.extract import extract_test

    extract_test(
        load_backbone(
            **snakemake.params.backbone, pretrained=snakemake.input.weights, device=device
        ),
        snakemake.input.manifest,
        snakemake.params.images,
        snakemake.output.features,
        shard=snakemake.params.shard,
        batch_size=64,
        workers=snakemake.threads - 1,
        exif=snakemake.params.exif,
    )
