# Activates the environment in the shell that sources this, as `conda activate` does, and once: what is started from
# there inherits it. bash sources it by itself (BASH_ENV), with the options of its own command line.

_condery_activate() {
    # in a function, where a script's `set --` or `shift` leaves the command alone
    for _condery_script in "$CONDA_PREFIX"/etc/conda/activate.d/*.sh; do
        # with `command`, a script that this shell cannot read is reported and skipped; without, it ends the shell
        [ -f "$_condery_script" ] && command . "$_condery_script"
        set +eufx
    done
}

if [ -n "${CONDA_PREFIX-}" ] && [ "${CONDERY_ACTIVATED-}" != "$CONDA_PREFIX" ]; then
    # first of all: the scripts may start shells
    export CONDERY_ACTIVATED="$CONDA_PREFIX"
    _condery_options=
    for _condery_script in e u f x; do
        case $- in *"$_condery_script"*) _condery_options=$_condery_options$_condery_script ;; esac
    done
    _condery_pipefail=
    if [ -n "${BASH_VERSION-}" ]; then
        if [ -o pipefail ]; then _condery_pipefail=-o; else _condery_pipefail=+o; fi
    fi
    set +eufx
    _condery_activate
    [ -z "$_condery_pipefail" ] || set "$_condery_pipefail" pipefail
    [ -z "$_condery_options" ] || set "-$_condery_options"
    unset _condery_script _condery_options _condery_pipefail
fi
unset -f _condery_activate
