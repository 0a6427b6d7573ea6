# Activates the environment as `conda activate` does, then becomes the command.

. "${0%/*}/activate.sh"
exec "$@"
