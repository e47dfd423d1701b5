/* A table that scrolls sideways by itself where it is wider than the page. */
import { Table } from "@chakra-ui/react";
import type { ReactNode } from "react";

export interface Column {
  title: string;
  right?: boolean;
  /** Names stay on one line. */
  tight?: boolean;
}

export interface Row {
  key: string;
  cells: readonly ReactNode[];
  current?: boolean;
  /** A link led here: the row is brought into sight once. */
  pointed?: boolean;
}

/** Brings what it marks into sight, once. */
const intoSight = (element: HTMLElement | null) => element?.scrollIntoView({ block: "center" });

export function Tabled({ label, columns, rows }: { label: string; columns: readonly Column[]; rows: readonly Row[] }) {
  return (
    <div className="sl-scroll" role="group" aria-label={label} tabIndex={0}>
      <Table.Root size="sm" aria-label={label}>
        <Table.Header>
          <Table.Row>
            {columns.map((column) => (
              <Table.ColumnHeader key={column.title} textAlign={column.right ? "right" : "left"} whiteSpace="nowrap">
                {column.title}
              </Table.ColumnHeader>
            ))}
          </Table.Row>
        </Table.Header>
        <Table.Body>
          {rows.map((row) => (
            <Table.Row key={row.key} ref={row.pointed ? intoSight : undefined} className={row.pointed ? "sl-pointed" : undefined} aria-current={row.current ? "true" : undefined} bg={row.current ? "bg.muted" : undefined}>
              {row.cells.map((cell, at) => (
                <Table.Cell key={columns[at]?.title ?? at} textAlign={columns[at]?.right ? "right" : "left"} whiteSpace={columns[at]?.right || columns[at]?.tight ? "nowrap" : undefined} verticalAlign="top">
                  {cell}
                </Table.Cell>
              ))}
            </Table.Row>
          ))}
        </Table.Body>
      </Table.Root>
    </div>
  );
}
