function mergeSteps(stage, { total, characters, steps }) {
  const line = el("p", { class: "pieces" }), says = live("work");

  function show(number) {
    const { pair, made, tokens } = steps[number];
    line.replaceChildren(...tokens.map((text, i) => el("span", { class: `piece p${i % 4}${text === made ? " new" : ""}`, "data-name": "token" }, text)));
    const last = pair ? `The last of them joins ${pair}.` : "Every byte is a token of its own.";
    says.textContent = `${last} ${tokens.length} tokens, ${(characters / tokens.length).toFixed(2)} characters a token.`;
  }

  const control = stepper("Merges", { min: 0, max: steps.length - 1, value: 0 }, (n) => `${steps[n].merges} of ${total}`, show);
  stage.append(control, line, says);
  show(0);
}

start("merge_steps", mergeSteps);
