from snakemake.utils import min_version

min_version("9.8")


if not workflow.overwrite_configfiles:

    # Given on the command line, a configuration stands alone: nothing is merged into it.
    configfile: "config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/demo.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/features.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/results.smk"
include: "workflow/rules/ablation.smk"


rule all:
    default_target: True
    input:
        # Heads and predictions too: without them a deleted one would not be made again.
        all_heads(),
        all_predictions(),
        TABLES,
        FIGURES,
        all_attention(),
        all_of_ablation(),
