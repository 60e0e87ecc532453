"""What runs inside ComfyUI's own Python, as a child process: it prints numbers, and the tests judge them."""
