import { byId } from './dom.js';

/** Shows the small form and resolves with what is entered. It stays until there is a key: nothing works without one. */
export function askForKey(wrong: boolean): Promise<string> {
  const dialog = byId<HTMLDialogElement>('key-dialog');
  const field = byId<HTMLInputElement>('key');
  byId('key-error').hidden = !wrong;
  field.value = '';
  dialog.showModal();
  field.focus();
  return new Promise((resolve) => {
    byId('key-form').onsubmit = () => {
      dialog.onclose = null;
      resolve(field.value.trim());
    };
    // Escape closes a dialog, whatever its page says.
    dialog.onclose = () => dialog.showModal();
  });
}
