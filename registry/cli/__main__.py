from registry.cli import main

# A process that is started by spawning imports this module again, under another name.
if __name__ == "__main__":
    main()
