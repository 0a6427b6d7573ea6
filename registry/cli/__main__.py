from registry.cli import main

# Processes that are started by spawning import this module again, under another name.
if __name__ == "__main__":
    main()
