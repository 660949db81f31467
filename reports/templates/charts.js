// Draws the page's charts again with Vega, so that they answer to the pointer. Each picture stays
// where it is until its chart is drawn; whatever goes wrong, the picture remains. `vegaEmbed` is the
// library that this script is bundled with.
const tip = document.createElement('div');
tip.id = 'tip';
tip.hidden = true;
tip.setAttribute('role', 'tooltip');
document.body.append(tip);

function show(handler, event, item, value) {
  tip.hidden = value === null || value === undefined || value === '';
  if (tip.hidden) return;
  tip.textContent = String(value); // names come from files: text, never markup
  const box = tip.getBoundingClientRect();
  const width = document.documentElement.clientWidth;
  tip.style.left = `${window.scrollX + Math.max(4, Math.min(event.clientX + 14, width - box.width - 8))}px`;
  const above = event.clientY - box.height - 14;
  tip.style.top = `${window.scrollY + (above > 4 ? above : event.clientY + 18)}px`;
}

const refuse = () => Promise.reject(new Error('this page loads nothing'));
const nothing = { load: refuse, sanitize: refuse, http: refuse, file: refuse };

async function draw(box) {
  const picture = box.querySelector('svg.chart');
  const text = box.querySelector('script').textContent;
  const host = document.createElement('div');
  try {
    await vegaEmbed(host, JSON.parse(text), {
      mode: 'vega', renderer: 'svg', actions: false, defaultStyle: false, loader: nothing, tooltip: show,
    });
    const drawn = host.querySelector('svg');
    if (!drawn) return;
    for (const name of ['role', 'aria-label', 'font-family']) {
      drawn.setAttribute(name, picture.getAttribute(name));
    }
    drawn.setAttribute('class', 'chart live');
    drawn.removeAttribute('aria-roledescription');
    host.className = 'host';
    picture.replaceWith(host);
  } catch (error) {
    host.remove();
    box.dataset.still = String(error);
  }
}

// those in sight first; the others as soon as the page has a moment
async function all() {
  const boxes = [...document.querySelectorAll('.wide, .narrow, .any')];
  const seen = boxes.filter((box) => box.checkVisibility());
  for (const box of seen) await draw(box);
  document.documentElement.dataset.charts = 'live';
  performance.mark('charts');
  const rest = boxes.filter((box) => !seen.includes(box));
  const turned = () => {
    for (const box of rest.splice(0)) {
      if (box.checkVisibility()) draw(box);
      else rest.push(box);
    }
  };
  window.addEventListener('resize', turned);
}
all();
