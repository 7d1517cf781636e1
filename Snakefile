from snakemake.utils import min_version

min_version("9.8")


if not workflow.overwrite_configfiles:

    # Given on the command line, a configuration stands alone: nothing is merged into it.
    configfile: f"{workflow.basedir}/config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/demo.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/features.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/results.smk"


if PLAN.experiment.optimism:

    include: "workflow/rules/optimism.smk"


rule all:
    default_target: True
    input:
        PLAN.targets(),
    message:
        "Everything that the configuration requests"
