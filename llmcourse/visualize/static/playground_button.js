/** A button that fetches the program and the model. Scripts, because a page opened from a disk may fetch nothing else. */
function playgroundButton(stage, { address, megabytes, example }) {
  const label = `Load the model (${megabytes} MB)`, says = live("work");
  const script = (name) => new Promise((done, failed) => document.head.append(el("script", { src: `${address}/${name}`, load: done, error: failed })));

  async function load() {
    button.setAttribute("aria-disabled", "true"); // not `disabled`, which would take the focus away
    says.textContent = "Loading …";
    try {
      await Promise.all(["playground.js", "model.js"].map(script));
    } catch {
      button.removeAttribute("aria-disabled");
      says.textContent = "The model could not be loaded. Try again when there is a connection.";
      return;
    }
    globalThis.llmcourse.playground(stage, globalThis.llmcourse.model, example);
  }

  const button = el("button", { type: "button", class: "load", click: () => button.hasAttribute("aria-disabled") || load() }, label);
  stage.append(el("div", { class: "bar" }, button, says));
  stage.parentElement.querySelector(":scope > .without-script").remove();
}

start("playground_button", playgroundButton);
