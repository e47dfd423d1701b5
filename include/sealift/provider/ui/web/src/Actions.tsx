/* Actions: each is prepared by our API, shown in full, and started by Airflow's own API with the user's own rights. */
import { Button, CloseButton, Dialog, HStack, Input, NativeSelect, Portal, Stack, Text } from "@chakra-ui/react";
import { createContext, type ReactNode, useCallback, useContext, useMemo, useState } from "react";
import { Link } from "react-router-dom";

import { address, ours, Problem, send, useAsked } from "./api";
import { Notice, ProblemNotice, Waiting } from "./parts";
import { STYLE } from "./style";
import type { PreparedRun, Rights } from "./types";

export const PLAN_DAG = "plan_exports";
export const EXPORT_DAG = "export_servers";
export const PROVE_DAG = "prove_exports";
export const DELIVER_DAG = "deliver_images";

/** What an action has to be told before its run can be prepared. */
interface Question {
  /** The field of the action's body. */
  field: string;
  label: string;
  help: string;
  choices?: readonly (readonly [string, string])[];
}

export interface Action {
  /** The action's route, below actions/. */
  name: string;
  title: string;
  dag: string;
  body: Record<string, unknown>;
  asks?: Question;
}

export const ASK_LEVEL: Question = {
  field: "level",
  label: "Level",
  help: "It takes a worker as long as reading the images lasts. Nothing is captured, and no server goes offline.",
  choices: [
    ["L2", "L2: every byte, against its digest"],
    ["L3", "L3: file systems and what the server starts with, too"],
    ["L4", "L4: the server is started in an emulated machine, too"],
  ],
};

export const ASK_TARGET: Question = {
  field: "to",
  label: "Where to",
  help: "A folder that the workers see, or a place in a bucket as s3://bucket/prefix. Empty: where the deployment delivers to.",
};

interface Actor {
  start: (action: Action) => void;
  /** Why the user may not start runs of a DAG; empty where they may. */
  refusal: (dag: string) => string;
}

const Context = createContext<Actor>({ start: () => undefined, refusal: () => "" });

interface Started {
  dag_run_id: string;
}

type Step =
  | { at: "asking"; action: Action; asks: Question; answer: string }
  | { at: "preparing"; action: Action }
  | { at: "confirming"; action: Action; run: PreparedRun; sending: boolean; problem?: Problem }
  | { at: "started"; action: Action; run: PreparedRun; runId: string }
  | { at: "refused"; action: Action; problem: Problem };

const problemOf = (error: unknown): Problem => (error instanceof Problem ? error : new Problem(0, String(error)));

export function Actions({ place, children }: { place: string; children: ReactNode }) {
  const rights = useAsked<Rights>(ours("rights"), 0);
  const [step, setStep] = useState<Step>();

  const prepare = useCallback(
    (action: Action, more: Record<string, string> = {}) => {
      setStep({ at: "preparing", action });
      send<PreparedRun>(ours(`actions/${action.name}`, { place }), { ...action.body, ...more }).then(
        (run) => setStep({ at: "confirming", action, run, sending: false }),
        (error: unknown) => setStep({ at: "refused", action, problem: problemOf(error) }),
      );
    },
    [place],
  );
  const actor = useMemo<Actor>(
    () => ({
      start: (action) => (action.asks ? setStep({ at: "asking", action, asks: action.asks, answer: action.asks.choices?.[0]?.[0] ?? "" }) : prepare(action)),
      refusal: (dag) => {
        const right = rights.data?.rights.find((one) => one.dag_id === dag);
        return right && !right.may_start ? right.reason : "";
      },
    }),
    [prepare, rights.data],
  );

  const confirm = () => {
    if (step?.at !== "confirming") return;
    const { action, run } = step;
    setStep({ ...step, sending: true });
    send<Started>(address(run.path.replace(/^\/+/u, "")), run.body).then(
      (started) => setStep({ at: "started", action, run, runId: started.dag_run_id }),
      (error: unknown) => setStep({ at: "confirming", action, run, sending: false, problem: problemOf(error) }),
    );
  };
  const close = () => setStep(undefined);

  return (
    <Context.Provider value={actor}>
      {children}
      <Dialog.Root open={step !== undefined} onOpenChange={(change) => (change.open ? undefined : close())} size="lg" scrollBehavior="inside">
        <Portal>
          <Dialog.Backdrop />
          <Dialog.Positioner>
            <Dialog.Content className="sl-page">
              <style>{STYLE}</style>
              <Dialog.Header>
                <Dialog.Title>{step?.action.title ?? ""}</Dialog.Title>
              </Dialog.Header>
              <Dialog.Body>
                {step?.at === "asking" ? <Asked asks={step.asks} answer={step.answer} change={(answer) => setStep({ ...step, answer })} /> : step ? <Inside step={step} close={close} /> : null}
              </Dialog.Body>
              <Dialog.Footer>
                {step?.at === "asking" ? (
                  <>
                    <Button variant="outline" onClick={close}>
                      Cancel
                    </Button>
                    <Button colorPalette="brand" onClick={() => prepare(step.action, { [step.asks.field]: step.answer.trim() })}>
                      Continue
                    </Button>
                  </>
                ) : step?.at === "confirming" ? (
                  <>
                    <Button variant="outline" onClick={close} disabled={step.sending}>
                      Cancel
                    </Button>
                    <Button colorPalette={step.run.takes_servers_offline ? "red" : "brand"} onClick={confirm} loading={step.sending}>
                      Start the run
                    </Button>
                  </>
                ) : (
                  <Button variant="outline" onClick={close}>
                    Close
                  </Button>
                )}
              </Dialog.Footer>
              <Dialog.CloseTrigger asChild>
                <CloseButton size="sm" aria-label="Close" />
              </Dialog.CloseTrigger>
            </Dialog.Content>
          </Dialog.Positioner>
        </Portal>
      </Dialog.Root>
    </Context.Provider>
  );
}

function Asked({ asks, answer, change }: { asks: Question; answer: string; change: (answer: string) => void }) {
  return (
    <Stack gap={2}>
      <label>
        <Text as="span" fontSize="sm" display="block" mb={1}>
          {asks.label}
        </Text>
        {asks.choices ? (
          <NativeSelect.Root size="sm">
            <NativeSelect.Field value={answer} onChange={(event) => change(event.currentTarget.value)}>
              {asks.choices.map(([one, words]) => (
                <option key={one} value={one}>
                  {words}
                </option>
              ))}
            </NativeSelect.Field>
            <NativeSelect.Indicator />
          </NativeSelect.Root>
        ) : (
          <Input size="sm" value={answer} onChange={(event) => change(event.target.value)} />
        )}
      </label>
      <Text fontSize="sm" color="fg.muted">
        {asks.help}
      </Text>
    </Stack>
  );
}

function Inside({ step, close }: { step: Exclude<Step, { at: "asking" }>; close: () => void }) {
  if (step.at === "preparing") return <Waiting what="what the run would do" />;
  if (step.at === "refused") return <ProblemNotice problem={step.problem} />;
  if (step.at === "started")
    return (
      <Notice status="info" title="The run is started">
        <Link className="sl-link" to={runPath(step.run.dag_id, step.runId)} onClick={close}>
          {step.run.dag_id}: {step.runId}
        </Link>
      </Notice>
    );
  return (
    <Stack gap={3}>
      <Text className="sl-words">{step.run.summary}</Text>
      {step.run.takes_servers_offline ? (
        <Notice status="warning" title="Servers go offline">
          Each server is offline while it is captured.
        </Notice>
      ) : null}
      <Text fontSize="sm">
        It is a run of the DAG {step.run.dag_id}, started with your own rights, with this configuration:
      </Text>
      <code className="sl-code" style={{ whiteSpace: "pre-wrap", maxHeight: 320, overflowY: "auto" }} tabIndex={0} aria-label="The run's configuration">
        {JSON.stringify(step.run.body.conf, null, 2)}
      </code>
      {step.problem ? <ProblemNotice problem={step.problem} /> : null}
    </Stack>
  );
}

export const runPath = (dag: string, run: string): string => `/dags/${encodeURIComponent(dag)}/runs/${encodeURIComponent(run)}`;

export function RunLink({ dag, run, children }: { dag: string; run: string; children?: ReactNode }) {
  return (
    <Link className="sl-link" to={runPath(dag, run)}>
      {children ?? run}
    </Link>
  );
}

/** A button that starts an action; where it cannot, it says why beside it. */
export function Act({ action, children, why = "" }: { action: Action; children: string; why?: string }) {
  const actor = useContext(Context);
  const reason = actor.refusal(action.dag) || why;
  return (
    <HStack gap={2}>
      <Button size="sm" variant="outline" disabled={reason !== ""} onClick={() => actor.start(action)} title={reason || undefined}>
        {children}
      </Button>
      {reason ? (
        <Text fontSize="xs" color="fg.muted" maxW="260px">
          {reason}
        </Text>
      ) : null}
    </HStack>
  );
}
