// Follow the progress twice a second, and load the page again at the end. Without scripts, the page
// loads itself again every two seconds.
const bar = document.querySelector("progress");
const text = document.querySelector("output");

async function look() {
  try {
    const answer = await fetch(bar.dataset.url, { cache: "no-store" });
    const found = await answer.json();
    if (found.state === "done" || found.state === "failed") {
      location.reload();
      return;
    }
    bar.value = found.fraction;
    text.textContent = found.text || found.state;
  } catch {
    // The server is away; the next look may find it again.
  }
  setTimeout(look, 500);
}

look();
