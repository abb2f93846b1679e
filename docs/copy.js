// The copy button of a block copies its commands, without their prompts and what they print. mdBook copies `innerText`.
for (const code of document.querySelectorAll("code.language-console")) {
  const typed = code.textContent.split("\n").filter((line) => line.startsWith("$ "));
  if (typed.length > 0) {
    const commands = typed.map((line) => `${line.slice(2)}\n`).join("");
    Object.defineProperty(code, "innerText", { value: commands });
  }
}
