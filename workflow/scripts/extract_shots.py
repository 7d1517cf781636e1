"""Rule extract_shots: vtclip.features.extract.extract_shots."""

from vtclip.runtime.job import gpu_job

with gpu_job(snakemake.log[0], snakemake.config, threads=snakemake.threads) as device:
    from vtclip.backbones.backbone import load_backbone
    from vtclip.features.extract import extract_shots

    extract_shots(
        load_backbone(
            **snakemake.params.backbone, pretrained=snakemake.input.weights, device=device
        ),
        snakemake.input.shots,
        snakemake.params.images,
        snakemake.output.features,
        **snakemake.params.views,
        seed=int(snakemake.wildcards.seed),
        batch_size=64,
        workers=snakemake.threads - 1,
        exif=snakemake.params.exif,
    )
