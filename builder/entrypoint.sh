# Activates the environment as `conda activate` does, then becomes the command.

activate() {
    # in a function, where a script's `set --` or `shift` leaves the command alone
    for script in "$CONDA_PREFIX"/etc/conda/activate.d/*.sh; do
        # with `command`, a script that this shell cannot read is reported and skipped; without, it ends the container
        [ -f "$script" ] && command . "$script"
        set +eu
    done
}

activate
unset script
exec "$@"
