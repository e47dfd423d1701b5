"""What Sealift costs, measured against the sandbox; each benchmark is a program that writes into results/."""
