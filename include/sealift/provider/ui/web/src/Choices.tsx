/* Several values of one kind to filter by: a button that unfolds a list of check boxes. */
import { Button, Input, Text } from "@chakra-ui/react";
import { type FocusEvent, type KeyboardEvent, useId, useRef, useState } from "react";

import { plural } from "./words";

const SEARCHED = 12;

interface ChoicesProps {
  label: string;
  /** What one value is called, as "tag". */
  one: string;
  all: string;
  values: readonly string[];
  choices: readonly (readonly [string, string])[];
  change: (values: readonly string[]) => void;
}

export function Choices({ label, one, all, values, choices, change }: ChoicesProps) {
  const [open, setOpen] = useState(false);
  const [typed, setTyped] = useState("");
  const id = useId();
  const button = useRef<HTMLButtonElement>(null);
  // What stands in the address is shown as well where nothing has it any more: else nobody could take it away.
  const known = new Set(choices.map(([value]) => value));
  const every = [...choices, ...values.filter((value) => !known.has(value)).map((value): [string, string] => [value, value])];
  const shown = every.filter(([, words]) => words.toLowerCase().includes(typed.trim().toLowerCase()));
  const [only] = values;

  const toggle = (value: string) => change(values.includes(value) ? values.filter((each) => each !== value) : [...values, value]);
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key !== "Escape" || !open) return;
    event.stopPropagation();
    setOpen(false);
    button.current?.focus();
  };
  const onBlur = (event: FocusEvent<HTMLDivElement>) => {
    if (!event.currentTarget.contains(event.relatedTarget)) setOpen(false);
  };
  return (
    <div className="sl-choices" onKeyDown={onKeyDown} onBlur={onBlur}>
      <Text as="span" id={`${id}-label`} fontSize="xs" color="fg.muted" display="block">
        {label}
      </Text>
      <Button ref={button} id={`${id}-button`} size="sm" variant="outline" fontWeight="normal" aria-expanded={open} aria-controls={`${id}-list`} aria-labelledby={`${id}-label ${id}-button`} onClick={() => setOpen(!open)}>
        {values.length === 0 ? all : values.length === 1 ? only : plural(values.length, one)}
        <span aria-hidden="true" className="sl-mark">▾</span>
      </Button>
      <div id={`${id}-list`} className="sl-list" role="group" aria-labelledby={`${id}-label`} hidden={!open} tabIndex={-1}>
        {every.length > SEARCHED ? <Input size="xs" type="search" aria-label={`Find a ${one}`} placeholder="Find" value={typed} onChange={(event) => setTyped(event.target.value)} /> : null}
        <ul>
          {shown.map(([value, words]) => (
            <li key={value}>
              <label>
                <input type="checkbox" checked={values.includes(value)} onChange={() => toggle(value)} /> {words}
              </label>
            </li>
          ))}
        </ul>
        {every.length ? null : <Text fontSize="sm" color="fg.muted">There is none.</Text>}
        {values.length ? (
          <Button size="xs" variant="ghost" onClick={() => change([])}>
            Any {one}
          </Button>
        ) : null}
      </div>
    </div>
  );
}
