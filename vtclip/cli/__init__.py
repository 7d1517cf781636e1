"""The subcommands of `vtclip`: what each takes, and what it prints."""
