"""Rule fetch_archive: vtclip.data.fetch.fetch_archive."""

from vtclip.data.fetch import Expected, fetch_archive
from vtclip.logs import job_log

with job_log(snakemake.log[0]):
    fetch_archive(
        snakemake.params.addresses,
        snakemake.params.destination,
        snakemake.output[0],
        Expected(**snakemake.params.expected),
    )
