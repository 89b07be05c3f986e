// Return one sentence for each rule of axe-core that a part of the page breaks; only its colours if `rules` is false.
async ({ within, rules }) => {
  const { left: x, top: y } = { left: window.scrollX, top: window.scrollY };
  const violations = [];
  if (rules) {
    const options = { resultTypes: ["violations"], rules: { "color-contrast": { enabled: false } } };
    violations.push(...(await axe.run(within, options)).violations);
  }
  // Contrast takes longer than all other rules. Elements with equal classes and ancestors have equal colours, so one of each
  // is enough.
  const samples = new Map();
  for (const element of document.querySelector(within).querySelectorAll("*")) {
    const hasText = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
    if (!hasText || !element.checkVisibility({ visibilityProperty: true })) continue;
    const path = [];
    for (let parent = element; parent && path.length < 6; parent = parent.parentElement) {
      path.push(`${parent.tagName}.${parent.className}`);
    }
    if (!samples.has(path.join())) samples.set(path.join(), element);
  }
  if (samples.size) {
    const options = { resultTypes: ["violations"], runOnly: ["color-contrast", "link-in-text-block"] };
    violations.push(...(await axe.run({ include: [...samples.values()] }, options)).violations);
  }
  window.scrollTo(x, y); // axe scrolls to what it looks at
  return violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.slice(0, 5).map((node) => node.target)}`);
};
