(() => {
  "use strict";
  const list = document.getElementById("cards");
  const form = document.getElementById("gallery-controls");
  const shown = document.getElementById("shown");
  const cards = [...list.children];
  const choice = (id) => document.getElementById(id).value;

  // An undefined value goes last, whichever way the rest is sorted.
  const compare = (key, sign) => (a, b) => {
    const [left, right] = [a.dataset[key], b.dataset[key]];
    if (key === "name") return left.localeCompare(right);
    if (left === "" || right === "") return (left === "") - (right === "");
    return sign * (left - right) || a.dataset.order - b.dataset.order;
  };

  const matches = ({ dataset }) =>
    (choice("class") === "" || dataset.classes.split(" ").includes(choice("class"))) &&
    (choice("was") === "" || dataset.was === choice("was")) &&
    (choice("now") === "" || dataset.now === choice("now"));

  const update = () => {
    const [key, sign] = choice("sort").split(":");
    list.append(...cards.sort(compare(key, Number(sign))));
    for (const card of cards) card.hidden = !matches(card);
    const found = visible();
    shown.textContent = `${found.length} of ${cards.length} ${shown.dataset.unit}`;
    stopAt(found[0]);
  };

  // The tab key stops at one card only: the other keys go from card to card, and tab goes on.
  const visible = () => cards.filter((card) => !card.hidden);
  const stopAt = (stop) => {
    for (const card of cards) card.tabIndex = card === stop ? 0 : -1;
  };

  const places = {
    ArrowDown: (at) => at + 1,
    ArrowRight: (at) => at + 1,
    ArrowUp: (at) => at - 1,
    ArrowLeft: (at) => at - 1,
    Home: () => 0,
    End: (_, last) => last,
  };

  const move = (event) => {
    const place = places[event.key];
    const among = visible();
    const at = among.indexOf(event.target);
    if (!place || at < 0 || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const next = among[place(at, among.length - 1)];
    if (!next) return; // at either end the page scrolls on
    event.preventDefault();
    next.focus({ preventScroll: true });
    next.scrollIntoView({ block: "start" });
  };

  list.addEventListener("keydown", move);
  list.addEventListener("focusin", ({ target }) => cards.includes(target) && stopAt(target));
  form.addEventListener("change", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(update));
  form.hidden = false;
  document.getElementById("keys").hidden = false;
  update();
})();
