// Copy buttons. Without this file they stay hidden, and the texts can be selected.
"use strict";
for (const button of document.querySelectorAll("button[data-copy]")) {
  const text = document.getElementById(button.dataset.copy);
  const said = document.getElementById("said");
  button.hidden = false;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text.textContent);
      said.textContent = button.textContent = "Copied";
    } catch { // no clipboard: a page of plain http on another machine, or the person said no
      getSelection().selectAllChildren(text);
      said.textContent = button.textContent = "Selected";
    }
    setTimeout(() => { said.textContent = ""; button.textContent = "Copy"; }, 2500);
  });
}
