// What a pointer shows by hovering, a tap or the Enter key shows at the foot of the window. Writes only text.
(() => {
  const tip = document.createElement("p");
  tip.id = "tip";
  tip.setAttribute("role", "status");
  tip.hidden = true;
  document.body.append(tip);
  const told = (target) => {
    const found = target instanceof Element && !target.closest("a, button, input, summary") && target.closest("[title]");
    return found ? found.getAttribute("title") : target.closest?.("g")?.querySelector("title")?.textContent ?? "";
  };
  const show = (text) => {
    tip.hidden = text === "";
    tip.textContent = text;
  };
  for (const one of document.querySelectorAll("span[title], td[title]")) one.tabIndex = 0;
  addEventListener("click", (event) => show(told(event.target)));
  addEventListener("keydown", (event) => {
    if (event.key === "Escape") show("");
    if (event.key === "Enter" && event.target.matches("[title]")) show(told(event.target));
  });
})();
