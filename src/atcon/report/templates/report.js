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
    const count = cards.filter((card) => !card.hidden).length;
    shown.textContent = `${count} of ${cards.length} ${shown.dataset.unit}`;
  };

  form.addEventListener("change", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(update));
  form.hidden = false;
  update();
})();
