"""Train the playground's model anew and store it: `python -m llmcourse.visualize.playground`, or `make playground`."""

from llmcourse.visualize.playground import FOLDER, make

if __name__ == "__main__":
    print(f"training the playground's model: some minutes on one thread; it will be stored in {FOLDER}")
    for name, value in make().items():
        print(f"{name:10} {value:,}")
