/** Texts to begin with, by name. */
export const SAMPLES: readonly (readonly [name: string, text: string])[] = [
  ['English', 'And the river rose in the night, and in the morning the people saw that the bridge was gone.'],
  [
    'German',
    'Die Datei wird geöffnet, gelesen und wieder geschlossen; für größere Dateien dauert das länger.',
  ],
  [
    'Python',
    'def mean(values):\n    """Return the mean of some numbers."""\n    return sum(values) / len(values)\n',
  ],
  ['Japanese', 'このコマンドはファイルを表示します。'],
];
