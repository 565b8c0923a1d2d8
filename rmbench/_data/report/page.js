// Opens what a link leads into, and everything for print. Reads nothing else and writes no markup.
(() => {
  const reveal = () => {
    const target = document.getElementById(location.hash.slice(1));
    const details = target?.closest("details");
    if (details) details.open = true;
  };
  let opened = [];
  addEventListener("hashchange", reveal);
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const details of opened) details.open = true;
  });
  addEventListener("afterprint", () => {
    for (const details of opened) details.open = false;
  });
  reveal();
})();
