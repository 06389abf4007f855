/** A beam search as a tree: a column a step, a line from each beginning to its continuations; a slider says how far. */
function beamTree(stage, { steps, opens, best }) {
  const WIDTH = 112, HEIGHT = 46, BOX = 84;
  const rows = Math.max(...steps.map((step) => step.length));
  const says = live("work"), counted = live("work"), list = el("div");
  const looks = {
    live: "background: var(--full); border: 1px solid var(--blue); color: var(--ink)",
    finished: "background: var(--warm); border: 3px double var(--ink); color: var(--ink); font-weight: 700",
    dropped: "background: var(--paper); border: 1px dashed var(--edge); color: var(--soft)",
  };
  const number = (value) => value.toFixed(3).replace("-", "−");

  /** What each beginning up to a step has become: finished, live when something of it is still kept, or dropped. */
  function states(last) {
    const all = steps.slice(0, last + 1).map((step, i) => step.map(({ finished }) => (finished ? "finished" : i === last ? "live" : "dropped")));
    for (let i = last; i > 0; i--) {
      steps[i].forEach(({ parent }, j) => {
        if (all[i][j] !== "dropped") all[i - 1][parent] = "live";
      });
    }
    return all;
  }

  const lines = steps.map((step, i) => step.map(({ parent }, j) => el("line", i === 0 ? {} : {
    x1: (i - 1) * WIDTH + BOX, y1: (parent + 0.5) * HEIGHT, x2: i * WIDTH, y2: (j + 0.5) * HEIGHT, "data-column": i, "data-row": j })));
  const nodes = steps.map((step, i) => step.map(({ piece, logProbability }, j) => el("button", {
    type: "button", "data-name": "node", "data-row": j, "data-column": i, "data-value": logProbability, click: ({ currentTarget }) => explain(currentTarget),
  }, el("span", { style: "display: block; overflow: hidden; text-overflow: ellipsis; white-space: pre" }, piece), number(logProbability))));
  const every = nodes.flat();

  function show(last) {
    const now = states(last);
    nodes.forEach((step, i) => step.forEach((node, j) => {
      const state = i > last ? "" : now[i][j];
      node.dataset.state = state;
      node.setAttribute("style", `position: absolute; left: ${i * WIDTH}px; top: ${j * HEIGHT + 2}px; width: ${BOX}px; height: ${HEIGHT - 4}px; padding: 0 3px; font-size: 13px; line-height: 1.25; ${state ? looks[state] : "display: none"}`);
      node.title = `step ${i + 1}, ${state}`; // its name is what it shows
      lines[i][j].setAttribute("style", !state ? "display: none" : state === "dropped" ? "stroke: var(--edge); stroke-dasharray: 4 4" : "stroke-width: 2.5");
    }));
    every.forEach((node) => { node.tabIndex = node === every[0] ? 0 : -1; });
    tell(last, now);
    says.textContent = "Choose a beginning to read it.";
  }

  /** What stands side by side after a step: what is kept now, and what was set aside as finished before. */
  function tell(last, now) {
    const kept = steps[last].map((node, j) => ({ ...node, state: now[last][j] }));
    const aside = steps.slice(0, last).flat().filter(({ finished }) => finished).map((node) => ({ ...node, state: "finished" }));
    const all = [...kept, ...aside];
    const gone = last ? steps[last - 1].filter(({ finished }, j) => !finished && !steps[last].some(({ parent }) => parent === j)).length : 0;
    const done = all.filter(({ finished }) => finished);
    const top = done.reduce((a, b) => (b.score > a.score ? b : a), done[0]);
    counted.textContent = `Step ${last + 1}: ${all.length - done.length} live, ${done.length} finished, ${gone} dropped.`
      + (top ? ` Best finished: ${top.text} (score ${number(top.score)}).` : "")
      + (last + 1 === steps.length ? ` Chosen: ${best}` : "");
    const columns = ["log P", "score", "state", "beginning"];
    const cell = (i, j) => [
      () => el("td", { "data-name": "kept", "data-row": i, "data-column": 0, "data-value": all[i].logProbability }, number(all[i].logProbability)),
      () => el("td", { "data-name": "kept", "data-row": i, "data-column": 1, "data-value": all[i].score }, number(all[i].score)),
      () => el("td", { class: "w" }, all[i].state),
      () => el("td", { class: "w" }, all[i].text),
    ][j]();
    const table = matrix(`After step ${last + 1}`, all.map((_, i) => `${i + 1}`), columns, cell, true);
    for (const name of [...table.querySelectorAll("th[scope=col]")].slice(2)) name.classList.add("w");
    list.replaceChildren(table);
  }

  function explain(button) {
    const { row, column, state } = button.dataset, { text, logProbability, score } = steps[column][row];
    says.textContent = `“${text}”: log probability ${number(logProbability)}, score ${number(score)}, ${state}.`;
    every.forEach((node) => { node.tabIndex = node === button ? 0 : -1; });
  }

  const control = stepper("Step", { min: 1, max: steps.length, value: opens + 1 }, (n) => `${n} of ${steps.length}`, (n) => show(n - 1));
  const size = { width: steps.length * WIDTH - WIDTH + BOX, height: rows * HEIGHT };
  const tree = el("div", { role: "group", "aria-label": "the tree", style: `position: relative; width: ${size.width}px; height: ${size.height}px; margin: 3px` },
    el("svg", { "aria-hidden": "true", viewBox: `0 0 ${size.width} ${size.height}`, style: `position: absolute; inset: 0; width: ${size.width}px; height: ${size.height}px` }, ...lines.slice(1).flat()),
    ...every);
  roam(tree, "button", every[0], explain);
  const key = (state, words) => el("span", { style: `display: inline-block; padding: 0 0.5em; margin-right: 0.6em; ${looks[state]}` }, words);
  stage.append(control, counted,
    el("div", { class: "scroll" }, tree), says, el("p", { class: "note" }, key("live", "live"), key("finished", "finished"), key("dropped", "dropped")), list);
  show(opens);
}

start("beam_tree", beamTree);
