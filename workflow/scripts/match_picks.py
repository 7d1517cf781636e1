"""Rule match_picks: vtclip.data.shots.match_picks."""

from vtclip.runtime.job import job

with job(snakemake.log[0]):
    from vtclip.data.shots import match_picks
    from vtclip.paths import parse_shots

    match_picks(
        snakemake.input.manifest,
        snakemake.input.picks,
        snakemake.output[0],
        shots=parse_shots(snakemake.wildcards.shots),
    )
