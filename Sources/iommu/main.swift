import IOMMUCommands

Tool.run()
