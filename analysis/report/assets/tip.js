// What a shape of the picture says and does.

/** Pointer and keyboard: words on hover and focus, a choice on click, Enter and space. */
function react(shape, words, choose) {
  const tip = byId('tip');
  const show = (event) => {
    event.stopPropagation();
    tip.replaceChildren(
      ...words()
        .filter(Boolean)
        .map((line) => element('div', {}, line)),
    );
    tip.hidden = false;
    const at = event.type === 'focus' ? shape.getBoundingClientRect() : { left: event.clientX, bottom: event.clientY };
    tip.style.left = `${Math.max(8, Math.min(at.left + 12, innerWidth - tip.offsetWidth - 8))}px`;
    tip.style.top = `${Math.min(at.bottom + 14, innerHeight - tip.offsetHeight - 8)}px`;
  };
  const act = (event) => {
    event.stopPropagation();
    event.preventDefault();
    tip.hidden = true;
    choose();
  };
  for (const type of ['pointermove', 'focus']) shape.addEventListener(type, show);
  for (const type of ['pointerleave', 'blur'])
    shape.addEventListener(type, () => {
      tip.hidden = true;
    });
  shape.addEventListener('click', act);
  shape.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' || event.key === ' ') act(event);
  });
}
