// What the page does where scripts may run: sort, filter, link, copy, download. Without it the same
// content is there to read.
(() => {
  'use strict';
  const make = (tag, text, attributes = {}) => {
    const node = document.createElement(tag);
    node.textContent = text;
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return node;
  };
  const button = (text, label, act) => {
    const node = make('button', text, { type: 'button', 'aria-label': label });
    node.addEventListener('click', act);
    return node;
  };
  const said = make('p', '', { role: 'status', class: 'said' });
  document.body.append(said);
  const say = (text) => { said.textContent = text; };
  const save = (name, content, type) => {
    const url = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
    const link = make('a', '', { href: url, download: name });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
  };
  const stem = document.documentElement.dataset.name || 'report';

  // -- tables ------------------------------------------------------------------------------------
  const cellsOf = (row) => [...row.cells].map((cell) => cell.innerText.replace(/\s+/g, ' ').trim());
  const numberOf = (text) => {
    const found = text.replace(/,/g, '').replace(/−/g, '-').match(/^[+-]?\d+(\.\d+)?(e[+-]?\d+)?/i);
    return found ? Number(found[0]) : null;
  };
  const compare = (a, b) => {
    const x = numberOf(a), y = numberOf(b);
    if (x !== null && y !== null && x !== y) return x - y;
    if ((x === null) !== (y === null)) return x === null ? 1 : -1;
    return a.localeCompare(b, 'en', { numeric: true });
  };
  // a cell that a spreadsheet would take for a formula is quoted as text
  const quoted = (text) => {
    const safe = /^[=+@\t\r]|^-(?![\d.])/.test(text) ? `'${text}` : text;
    return /[",\n]/.test(safe) ? `"${safe.replace(/"/g, '""')}"` : safe;
  };
  const csv = (rows) => rows.map((row) => row.map(quoted).join(',')).join('\n') + '\n';
  const plain = (text) => (/^[+−-]?[\d,]+(\.\d+)?$/.test(text) ? text.replace(/,/g, '').replace('−', '-') : text);

  const sortable = (table) => {
    const body = table.tBodies[0];
    const first = [...body.rows];
    const state = { filter: '', sort: '' };
    const bar = make('p', '', { class: 'bar' });
    const field = make('input', '', { type: 'search', 'aria-label': `Filter: ${table.dataset.what}` });
    field.placeholder = 'filter';
    const count = make('span', '', { role: 'status' });
    const heads = [...table.tHead.rows[0].cells];
    const apply = (keep) => {
      const words = state.filter.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of first) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        if (!row.hidden) shown += 1;
      }
      const column = Math.abs(Number(state.sort)) - 1, down = state.sort.startsWith('-');
      let order = first;
      if (column >= 0) {
        const keyed = first.map((row) => [row.cells[column].textContent.trim(), row]);
        keyed.sort((a, b) => (down ? compare(b[0], a[0]) : compare(a[0], b[0])));
        order = keyed.map((pair) => pair[1]);
      }
      body.append(...order);
      heads.forEach((head, at) => {
        if (at === column) head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
        else head.removeAttribute('aria-sort');
      });
      count.textContent = `${shown} of ${first.length} rows`;
      if (keep) {
        const query = new URLSearchParams(Object.entries(state).filter((pair) => pair[1]));
        history.replaceState(null, '', `#${table.id}${query.size ? `?${query}` : ''}`);
      }
    };
    heads.forEach((head, at) => {
      const name = head.textContent.trim();
      const press = button(name, `Sort by ${name}`, () => {
        state.sort = state.sort === String(at + 1) ? `-${at + 1}` : String(at + 1);
        apply(true);
      });
      head.replaceChildren(press);
    });
    field.addEventListener('input', () => { state.filter = field.value; apply(true); });
    bar.append(field, count);
    table.parentElement.before(bar);
    table.restore = (query) => {
      state.filter = field.value = query.get('filter') || '';
      const sort = query.get('sort') || '';
      state.sort = /^-?\d+$/.test(sort) && Math.abs(sort) <= heads.length ? sort : '';
      apply(false);
    };
    apply(false);
    return bar;
  };
  for (const table of document.querySelectorAll('main table')) {
    const down = button('CSV', `Download as CSV: ${table.dataset.what || table.id}`, () => {
      const rows = [...table.rows].filter((row) => !row.hidden).map((row) => [...row.cells]
        .map((cell) => plain(cell.textContent.replace(/\s+/g, ' ').trim())));
      save(`${stem}-${table.id.replace('table-', '')}.csv`, csv(rows), 'text/csv');
    });
    if (table.classList.contains('sortable')) sortable(table).append(down);
    else {
      const bar = make('p', '', { class: 'bar' });
      bar.append(down);
      table.parentElement.after(bar);
    }
  }

  // -- charts ------------------------------------------------------------------------------------
  // as a file of its own: with its namespace, and the colours that the page gives it
  const standalone = (svg) => {
    const copy = svg.cloneNode(true);
    const [from, to] = [svg, copy].map((root) => [root, ...root.querySelectorAll('*')]);
    from.forEach((node, at) => {
      const style = getComputedStyle(node);
      for (const name of ['fill', 'stroke']) {
        if (node.hasAttribute(name) && style[name] !== 'none') to[at].setAttribute(name, style[name]);
      }
      if (at) to[at].removeAttribute('style');
    });
    copy.removeAttribute('class');
    copy.removeAttribute('style');
    copy.setAttribute('xmlns', 'http://www.w3.org/2000/svg');
    const size = svg.viewBox.baseVal;
    copy.setAttribute('width', size.width);
    copy.setAttribute('height', size.height);
    const paper = document.createElementNS('http://www.w3.org/2000/svg', 'rect');
    paper.setAttribute('width', '100%');
    paper.setAttribute('height', '100%');
    paper.setAttribute('fill', getComputedStyle(document.body).backgroundColor);
    copy.prepend(paper);
    return [new XMLSerializer().serializeToString(copy), size.width, size.height];
  };
  const png = (text, width, height, name) => {
    const image = new Image();
    const url = URL.createObjectURL(new Blob([text], { type: 'image/svg+xml' }));
    image.onload = () => {
      const canvas = make('canvas', '');
      canvas.width = 2 * width;
      canvas.height = 2 * height;
      canvas.getContext('2d').drawImage(image, 0, 0, canvas.width, canvas.height);
      URL.revokeObjectURL(url);
      canvas.toBlob((blob) => save(name, blob, 'image/png'));
    };
    image.onerror = () => say('This browser cannot draw the chart as PNG; take the SVG.');
    image.src = url;
  };
  for (const figure of document.querySelectorAll('figure')) {
    const shown = () => [...figure.querySelectorAll('svg.chart')].find((svg) => svg.checkVisibility());
    const name = `${stem}-${figure.id.replace('fig-', '')}`;
    const bar = make('p', '', { class: 'bar' });
    bar.append(
      button('SVG', `Download as SVG: ${figure.id}`, () => save(`${name}.svg`, standalone(shown())[0], 'image/svg+xml')),
      button('PNG', `Download as PNG: ${figure.id}`, () => png(...standalone(shown()), `${name}.png`)),
    );
    if (document.getElementById('runtime') && figure.dataset.hint) {
      bar.append(make('span', figure.dataset.hint));
    }
    figure.append(bar);
  }

  // -- the record --------------------------------------------------------------------------------
  const record = document.getElementById('record');
  const place = document.getElementById('record-bar');
  if (record && place) {
    const copy = async () => {
      const text = JSON.stringify(JSON.parse(record.textContent), null, 1);
      try {
        await navigator.clipboard.writeText(text);
      } catch {
        const area = make('textarea', text);
        document.body.append(area);
        area.select();
        document.execCommand('copy');
        area.remove();
      }
      say('The data are in the clipboard as JSON.');
    };
    place.append(
      button('Copy JSON', 'Copy the data of this page as JSON', copy),
      button('Download JSON', 'Download the data of this page as JSON', () => save(
        `${stem}.json`, JSON.stringify(JSON.parse(record.textContent), null, 1), 'application/json')),
    );
    const data = JSON.parse(record.textContent);
    if (Array.isArray(data.columns) && Array.isArray(data.rows)) {
      const text = (value) => (value === null ? '' : String(value));
      const same = Object.keys(data.constants || {});
      const rows = data.rows.map((row) => [...row, ...same.map((name) => data.constants[name])].map(text));
      place.append(button('Download CSV', 'Download every run as CSV, with all digits', () => save(
        `${stem}.csv`, csv([[...data.columns, ...same], ...rows]), 'text/csv')));
    }
  }

  // -- links to a place, a sorting and a filter --------------------------------------------------
  const follow = () => {
    const [id, query] = decodeURIComponent(location.hash.slice(1)).split('?');
    const target = id && document.getElementById(id);
    if (!target) return;
    for (let node = target; node; node = node.parentElement) if (node.tagName === 'DETAILS') node.open = true;
    if (target.restore) target.restore(new URLSearchParams(query || ''));
    target.scrollIntoView();
  };
  window.addEventListener('hashchange', follow);
  follow();
  document.documentElement.dataset.ready = 'yes';
})();
