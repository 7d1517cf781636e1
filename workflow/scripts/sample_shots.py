"""Rule sample_shots: vtclip.data.shots.write_shots."""

from vtclip.runtime.job import job

with job(snakemake.log[0]):
    from vtclip.config.dataset import ClassSplit
    from vtclip.data.shots import write_shots
    from vtclip.paths import parse_shots

    write_shots(
        snakemake.input.manifest,
        snakemake.output[0],
        shots=parse_shots(snakemake.wildcards.shots),
        seed=int(snakemake.wildcards.seed),
        uneven=snakemake.params.uneven,
        without=ClassSplit.parse(snakemake.wildcards.dataset).fold,
    )
