"""Rule fetch_archive: vtclip.data.fetch.fetch_archive."""

from importlib import import_module

from vtclip.runtime.job import job

with job(snakemake.log[0]):
    from vtclip.data.fetch import Expected, fetch_archive

    # Imported by its name and not given by the rule: neither another address nor other code that
    # reads it is a reason to fetch again.
    addresses = import_module("vtclip.data.inventory").list_addresses(
        snakemake.wildcards.dataset, snakemake.wildcards.file, mirror=snakemake.config.get("mirror")
    )
    fetch_archive(
        addresses,
        snakemake.params.destination,
        snakemake.output[0],
        Expected(**snakemake.params.expected),
    )
