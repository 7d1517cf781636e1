"""Rule fetch_archive: vtclip.data.fetch.fetch_archive."""

from importlib import import_module

from vtclip.runtime.job import job

with job(snakemake.log[0]):
    from vtclip.data.fetch import Expected, fetch_archive

    # Not told by the rule, and by name: neither another address nor the code that reads it is a
    # reason to fetch again.
    addresses = import_module("vtclip.data.inventory").list_addresses(
        snakemake.wildcards.dataset,
        snakemake.wildcards.file,
        mirror=snakemake.config.get("mirror"),
    )
    fetch_archive(
        addresses,
        snakemake.params.destination,
        snakemake.output[0],
        Expected(**snakemake.params.expected),
    )
