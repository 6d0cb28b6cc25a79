// Look for news of a page, let its ages grow, and search by the key '/'.
(() => {
  'use strict';
  const main = document.querySelector('main[data-live]');
  const state = document.querySelector('[data-live-state]');
  const say = (text) => { if (state && state.textContent !== text) state.textContent = text; };

  // -- Ages. ---------------------------------------------------------------------------------
  // No line is broken at the spaces in it.
  const duration = (seconds) => {
    if (seconds < 1) return '';
    if (seconds < 60) return `${Math.round(seconds)}\u00a0s`;
    if (seconds < 3600) {
      const minutes = Math.floor(seconds / 60), rest = Math.round(seconds % 60) % 60;
      return minutes < 10 && rest ? `${minutes}\u00a0min\u00a0${rest}\u00a0s` : `${minutes}\u00a0min`;
    }
    if (seconds < 86400) {
      const hours = Math.floor(seconds / 3600), rest = Math.floor((seconds % 3600) / 60);
      return rest ? `${hours}\u00a0h\u00a0${rest}\u00a0min` : `${hours}\u00a0h`;
    }
    const days = Math.floor(seconds / 86400), rest = Math.floor((seconds % 86400) / 3600);
    return rest && days < 10 ? `${days}\u00a0d\u00a0${rest}\u00a0h` : `${days}\u00a0d`;
  };
  let behind = 0; // milliseconds by which the clock of the server differs from ours
  const grow = () => {
    for (const each of document.querySelectorAll('time[data-kind]')) {
      const at = Date.parse(each.dateTime);
      if (Number.isNaN(at)) continue;
      const age = (Date.now() + behind - at) / 1000;
      const text = each.dataset.kind === 'ago'
        ? (duration(age) ? `${duration(age)} ago` : 'just now')
        : (duration(-age) ? `in ${duration(-age)}` : 'now');
      if (each.textContent !== text) each.textContent = text;
    }
  };
  const localTimes = () => {
    for (const each of document.querySelectorAll('time[data-kind]')) {
      const at = new Date(each.dateTime);
      if (!Number.isNaN(at.getTime())) each.title = at.toLocaleString();
    }
    for (const each of document.querySelectorAll('[data-clock]')) {
      const at = new Date(Number(each.dataset.clock) * 1000);
      each.textContent = at.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });
    }
    for (const each of document.querySelectorAll('[data-clock-note]')) each.hidden = true;
  };

  // -- News. ---------------------------------------------------------------------------------
  // What the visitor has opened, chosen or focused stays so when the content is replaced.
  const keyOf = (each) => each.id || each.getAttribute('href') || each.getAttribute('data-key') ||
    (each.name ? `${each.name}=${each.value}` : '');
  const replace = (html) => {
    const focused = main.contains(document.activeElement) ? keyOf(document.activeElement) : '';
    const open = new Set([...main.querySelectorAll('details[open]')].map((each) => each.dataset.key));
    const shut = new Set([...main.querySelectorAll('details:not([open])')].map((each) => each.dataset.key));
    const checked = new Set([...main.querySelectorAll('input:checked')].map(keyOf));
    const scrolled = [...main.querySelectorAll('.scroll')].map((each) => each.scrollLeft);
    const found = new DOMParser().parseFromString(html, 'text/html');
    main.replaceChildren(...found.body.childNodes);
    for (const each of main.querySelectorAll('details[data-key]')) {
      if (open.has(each.dataset.key)) each.open = true;
      else if (shut.has(each.dataset.key)) each.open = false;
    }
    for (const each of main.querySelectorAll('input[type=checkbox], input[type=radio]')) {
      if (checked.has(keyOf(each))) each.checked = true;
    }
    main.querySelectorAll('.scroll').forEach((each, at) => { each.scrollLeft = scrolled[at] || 0; });
    if (focused) {
      for (const each of main.querySelectorAll('a, button, input, select, summary')) {
        if (keyOf(each) === focused) { each.focus({ preventScroll: true }); break; }
      }
    }
  };
  // Not while text is being selected or typed, or a choice is open.
  const isBusy = () => {
    const at = document.activeElement;
    if (at && main.contains(at) && (at.matches('select, textarea') || at.matches('input:not([type=checkbox]):not([type=radio])'))) return true;
    const selection = document.getSelection();
    return Boolean(selection && !selection.isCollapsed && main.contains(selection.anchorNode));
  };

  let tag = '', timer = 0, failures = 0, asking = false;
  const look = async () => {
    if (document.hidden || isBusy() || asking) return;
    asking = true;
    try {
      const headers = { 'X-Alligator-Fragment': '1' };
      if (tag) headers['If-None-Match'] = tag;
      const answer = await fetch(location.href, { headers, cache: 'no-store', credentials: 'same-origin', redirect: 'manual' });
      if (answer.type === 'opaqueredirect') { location.reload(); return; } // such as to a login
      if (answer.status === 200 || answer.status === 503) {
        const html = await answer.text();
        if (!isBusy()) {
          tag = answer.headers.get('ETag') || '';
          replace(html);
          localTimes();
          grow();
        }
      } else if (answer.status !== 304) throw new Error(String(answer.status));
      const date = Date.parse(answer.headers.get('Date') || '');
      if (!Number.isNaN(date) && Math.abs(date - Date.now()) > 5000) behind = date - Date.now();
      failures = 0;
      main.dataset.looks = String(Number(main.dataset.looks || 0) + 1);
      if (!document.hidden) say(answer.status === 503 ? 'The queue cannot be reached' : 'Live');
    } catch {
      failures += 1;
      say('No answer from the dashboard; trying again');
    } finally {
      asking = false;
    }
  };
  const again = () => {
    clearTimeout(timer);
    if (!main) return;
    const every = Number(main.dataset.live) * 1000 * Math.min(2 ** failures, 8);
    timer = setTimeout(async () => { await look(); again(); }, every);
  };
  if (main) {
    say('Live');
    again();
    document.addEventListener('visibilitychange', async () => {
      if (document.hidden) { say('Paused'); return; }
      await look();
      again();
    });
  }
  localTimes();
  setInterval(() => { if (!document.hidden) grow(); }, 1000);

  // -- Keys, and boxes that check many. --------------------------------------------------------
  addEventListener('keydown', (event) => {
    const at = document.activeElement;
    const isTyping = at && (at.matches('input, textarea, select') || at.isContentEditable);
    if (event.key === '/' && !isTyping && !event.ctrlKey && !event.metaKey && !event.altKey) {
      const search = document.getElementById('search');
      if (search) { event.preventDefault(); search.focus(); search.select(); }
    }
    if (event.key === 'Escape' && at && at.id === 'search') at.blur();
  });
  document.addEventListener('change', (event) => {
    const name = event.target.dataset && event.target.dataset.checks;
    if (!name) return;
    for (const each of document.querySelectorAll(`input[type=checkbox][name="${CSS.escape(name)}"]`)) {
      each.checked = event.target.checked;
    }
  });
  document.addEventListener('click', async (event) => {
    const button = event.target.closest && event.target.closest('[data-copies]');
    if (!button) return;
    const from = document.getElementById(button.dataset.copies);
    try {
      await navigator.clipboard.writeText(from.textContent);
      button.textContent = 'Copied';
    } catch {
      getSelection().selectAllChildren(from); // to be copied by hand
      button.textContent = 'Selected';
    }
  });
})();
