"""Rule save_config: vtclip.experiment.save_config."""

from vtclip.jobs import job

with job(snakemake.log[0]):
    from vtclip.experiment import save_config

    save_config(snakemake.params.config, snakemake.output[0])
