"""Rule save_config: vtclip.config.experiment.save_config."""

from vtclip.runtime.job import job

with job(snakemake.log[0]):
    from vtclip.config.experiment import save_config

    save_config(snakemake.params.config, snakemake.output.config, files=snakemake.params.files)
