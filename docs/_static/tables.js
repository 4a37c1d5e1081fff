// Tables of many rows get a field that filters them, and headers that sort them. Nothing is loaded.
'use strict';

const MANY_ROWS = 10;

// Numbers by their value, words by the alphabet; up or down, empty cells last.
function compare(a, b, up) {
  const [x, y] = [a, b].map((text) => parseFloat(text.replace(/,/g, '')));
  const [none, other] = [a, b].map((text) => text === '' || text === '–');
  if (none || other) return none - other;
  const values = !Number.isNaN(x) && !Number.isNaN(y) && x !== y;
  const order = values ? x - y : a.localeCompare(b, 'en', { numeric: true });
  return up ? order : -order;
}

function sortBy(table, header, column) {
  const up = header.getAttribute('aria-sort') !== 'ascending';
  for (const other of table.tHead.rows[0].cells) other.removeAttribute('aria-sort');
  header.setAttribute('aria-sort', up ? 'ascending' : 'descending');
  const text = (row) => row.cells[column].textContent.trim();
  const rows = [...table.tBodies[0].rows];
  rows.sort((a, b) => compare(text(a), text(b), up));
  table.tBodies[0].append(...rows);
}

// Every word has to occur in a row.
function filterBy(table, words, count) {
  const rows = [...table.tBodies[0].rows];
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
  }
  count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows`;
}

function equip(table) {
  [...table.tHead.rows[0].cells].forEach((header, column) => {
    header.classList.add('sortable');
    header.tabIndex = 0;
    header.title = 'sort';
    header.addEventListener('click', () => sortBy(table, header, column));
    header.addEventListener('keydown', (event) => {
      if (event.key === 'Enter') sortBy(table, header, column);
    });
  });
  const tools = document.createElement('div');
  tools.className = 'table-tools';
  const field = document.createElement('input');
  field.type = 'search';
  field.placeholder = 'words in a row';
  field.setAttribute('aria-label', 'filter the table');
  const count = document.createElement('span');
  field.addEventListener('input', () =>
    filterBy(table, field.value.toLowerCase().split(/\s+/).filter(Boolean), count));
  filterBy(table, [], count);
  tools.append(field, count);
  (table.closest('.table-wrapper') ?? table).before(tools);
}

// Names of configs and paths may break after _ - / and a dot.
function breakNames(table) {
  const walker = document.createTreeWalker(table, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) if (/\S{16}/.test(walker.currentNode.data)) found.push(walker.currentNode);
  for (const node of found) {
    const parts = node.data.split(/(?<=[_\-/.])/);
    node.replaceWith(...parts.flatMap((part) => [part, document.createElement('wbr')]));
  }
}

// A value and its error, and an interval in brackets, stay on one line each.
function keepValues(table) {
  for (const cell of table.querySelectorAll('td, td > p')) {
    if (cell.childElementCount || !/^[+\-−]?[\d.]+ ± /.test(cell.textContent)) continue;
    const parts = cell.textContent.match(/[^(]+|\([^)]*\)/g);
    cell.replaceChildren(...parts.flatMap((part) => {
      const value = document.createElement('span');
      value.className = 'value';
      value.textContent = part.trim();
      return [value, ' '];
    }));
  }
}

const isCut = (table) => table.offsetWidth > table.parentElement.clientWidth;

document.addEventListener('DOMContentLoaded', () => {
  const tables = [...document.querySelectorAll('article table')];
  tables.forEach(breakNames);
  const long = tables.filter((table) => table.tHead && table.tBodies[0].rows.length >= MANY_ROWS);
  long.forEach(equip);
  tables.forEach(keepValues);
  if (long.length || tables.some(isCut)) document.querySelector('.content').classList.add('wide');
  const isLarge = (table) => long.includes(table) && table.tHead.rows[0].cells.length >= 6;
  for (const table of tables.filter((table) => isCut(table) || isLarge(table))) {
    table.classList.add('dense');
    if (isCut(table)) table.classList.remove('dense');
  }
});
