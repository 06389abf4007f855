function mergeSteps(stage, { total, characters, steps }) {
  const line = el("p", { class: "pieces" }), says = live("work");

  function show(number) {
    const { pair, made, tokens } = steps[number];
    line.replaceChildren(...tokens.map((text, i) => el("span", { class: `piece p${i % 4}${text === made ? " new" : ""}`, "data-name": "token" }, text)));
    const last = pair ? `The last of them joins ${pair}.` : "Every byte is a token of its own.";
    says.textContent = `${last} ${tokens.length} tokens, ${(characters / tokens.length).toFixed(2)} characters a token.`;
  }

  const control = slider("Merges", { min: 0, max: steps.length - 1, value: 0 }, (n) => `${steps[n].merges} of ${total}`, show);
  const input = control.querySelector("input");
  const turn = (by, text, label) => el("button", { type: "button", "aria-label": label, click: () => {
    input.valueAsNumber += by;
    input.dispatchEvent(new Event("input"));
  } }, text);
  stage.append(el("div", { class: "bar" }, control, turn(-1, "−", "one step back"), turn(1, "+", "one step on")), line, says);
  show(0);
}

start("merge_steps", mergeSteps);
