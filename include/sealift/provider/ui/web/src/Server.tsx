/* One server: what became of it slot by slot, and everything that is known of one of its exports. */
import { Box, Heading, HStack, Stack, Text } from "@chakra-ui/react";
import { useEffect } from "react";

import { Act, ASK_LEVEL, ASK_TARGET, DELIVER_DAG, EXPORT_DAG, PLAN_DAG, PROVE_DAG, RunLink } from "./Actions";
import { ours, useAsked } from "./api";
import { Checked, Copy, Empty, Facts, Go, Notice, Out, Pager, Problems, Section, Shown, StateWord } from "./parts";
import { placeFor, type Where } from "./place";
import { Tabled } from "./Tabled";
import type { ExportDetail, ExportLine, ServerView, WaveView } from "./types";
import { bytes, duration, fullName, lookOf, moment, plural } from "./words";

const PAGE = 20;

export function Server({ where }: { where: Where }) {
  const [id, kind, place] = [where.get("id"), where.get("kind"), where.get("place")];
  const offset = Number(where.get("offset")) || 0;
  const asked = useAsked<ServerView>(ours(`servers/${encodeURIComponent(id)}`, { place, kind, offset, limit: PAGE }));
  return (
    <Shown asked={asked} what="the server">
      {(server) => {
        const period = where.get("period") || server.exports.find((one) => one.state === "exported")?.period || server.exports[0]?.period || "";
        const line = server.exports.find((one) => one.period === period);
        const exported = server.exports.find((one) => one.state === "exported");
        const virtual = server.kind === "virtual";
        return (
          <Stack gap={4}>
            <HStack justify="space-between" flexWrap="wrap">
              <Heading as="h2" size="md" overflowWrap="anywhere">
                {fullName(server)}
              </Heading>
              <Checked at={asked.checkedAt} />
            </HStack>
            <Facts
              facts={[
                ["Id", `${String(server.id)} (${server.kind})`],
                ["Data center", server.datacenter || "not known"],
                ["Tags", server.tags.join(", ") || "none"],
              ]}
            />
            {virtual ? (
              <HStack gap={3} flexWrap="wrap" role="group" aria-label="Actions">
                <Act action={{ name: "export", title: `Export ${fullName(server)}`, dag: PLAN_DAG, body: { ids: [server.id] } }}>Export now</Act>
                <Act action={{ name: "prove", title: "Prove again", dag: PROVE_DAG, body: { exports: [`${String(server.id)}-${period}`] }, asks: ASK_LEVEL }} why={line?.state === "exported" ? "" : exported ? "The slot that is open has no export." : "There is no export to prove."}>
                  Prove again
                </Act>
                <Act action={{ name: "deliver", title: "Deliver", dag: DELIVER_DAG, body: { exports: [`${String(server.id)}-${period}`] }, asks: ASK_TARGET }} why={line?.state === "exported" ? "" : exported ? "The slot that is open has no export." : "There is no export to deliver."}>
                  Deliver
                </Act>
              </HStack>
            ) : null}
            <Section title="Exports" aside={<Pager total={server.total} offset={server.offset} limit={PAGE} what="slot" go={(next) => where.change({ offset: String(next || "") })} />}>
              <Tabled
                label="What became of the server, slot by slot"
                columns={[{ title: "Slot", tight: true }, { title: "State" }, { title: "Size", right: true }, { title: "Capture", right: true }, { title: "Export", right: true }, { title: "Done" }, { title: "Plan" }]}
                rows={server.exports.map((one) => ({
                  key: one.period,
                  current: one.period === period,
                  cells: [
                    <Go key="slot" where={where} to={{ view: "server", id, kind, period: one.period, offset: offset ? String(offset) : undefined }}>
                      {moment(one.at)}
                      {one.scheduled ? "" : " (manual)"}
                    </Go>,
                    <StateWord key="state" cell={one.state === "exported" && one.level ? one.level : one.state} />,
                    one.bytes ? bytes(one.bytes) : "–",
                    duration(one.capture_seconds),
                    duration(one.export_seconds),
                    moment(one.done_at),
                    one.plan_id ? (
                      <Go key="plan" where={where} to={{ view: "plan", plan: one.plan_id }}>
                        {one.plan_id}
                      </Go>
                    ) : (
                      "–"
                    ),
                  ],
                }))}
              />
            </Section>
            {line ? line.state === "exported" ? <Export key={period} server={server} period={period} place={place} /> : <NotExported line={line} where={where} /> : period ? <Export key={period} server={server} period={period} place={place} /> : null}
          </Stack>
        );
      }}
    </Shown>
  );
}

/** A task in Airflow knows its server by the place in its wave: from there, to the server. */
export function ServerOfWave({ where }: { where: Where }) {
  const [plan, wave, place, index] = [where.get("plan"), where.get("wave"), where.get("place"), where.get("index")];
  const asked = useAsked<WaveView>(ours(`plans/${encodeURIComponent(plan)}/waves/${encodeURIComponent(wave)}`, { place }), 0);
  const found = asked.data?.servers.find((one) => String(one.map_index) === index);
  const { open } = where;
  const at = place || placeFor(asked.place);
  useEffect(() => {
    if (found) open({ view: "server", id: String(found.id), period: found.period, place: at }, true);
  }, [found, at, open]);
  return (
    <Shown asked={asked} what="the server">
      {() => (found ? null : <Empty title="There is no such server">The wave {Number(wave) + 1} of {plan} has none at place {index}.</Empty>)}
    </Shown>
  );
}

function NotExported({ line, where }: { line: ExportLine; where: Where }) {
  const look = lookOf(line.state);
  return (
    <Section title={`${moment(line.at)}: ${look.word}`}>
      <Stack gap={3}>
        {line.words ? (
          <Notice status={line.state === "failed" ? "error" : "info"} title={line.state === "failed" ? `Failed${line.task ? ` in ${line.task}` : ""}` : `Why: ${line.rule || look.word}`}>
            {line.words}
          </Notice>
        ) : (
          <Text>Nothing more is known of this slot.</Text>
        )}
        <HStack gap={4} flexWrap="wrap">
          {line.wave_run_id ? <RunLink dag={EXPORT_DAG} run={line.wave_run_id}>The wave’s run in Airflow</RunLink> : null}
          {line.plan_id && line.wave !== null ? (
            <Go where={where} to={{ view: "wave", plan: line.plan_id, wave: String(line.wave) }}>
              The wave
            </Go>
          ) : null}
          {line.state === "failed" && line.plan_id ? (
            <Act action={{ name: "retry", title: "Try the failed again", dag: PLAN_DAG, body: { plan_id: line.plan_id } }}>Retry the failed of its plan</Act>
          ) : null}
        </HStack>
      </Stack>
    </Section>
  );
}

function Export({ server, period, place }: { server: ServerView; period: string; place: string }) {
  const asked = useAsked<ExportDetail>(ours(`servers/${String(server.id)}/exports/${encodeURIComponent(period)}`, { place }), 60);
  return (
    <Shown asked={asked} what="the export">
      {(found) => {
        const { manifest } = found;
        const storage = manifest.storage_not_in_image ?? [];
        return (
          <Stack gap={4}>
            <Problems problems={found.problems} />
            <Section title={`Export ${manifest.export_id}`} aside={<StateWord cell={found.level} />}>
              <Facts
                facts={[
                  ["Captured", moment(manifest.captured_at)],
                  ["Exported", moment(manifest.exported_at)],
                  ["Proven", moment(manifest.proven_at)],
                  ["Took", `${duration(found.seconds)} in all${manifest.timing?.capture ? `; capture ${duration(manifest.timing.capture.seconds)}` : ""}${manifest.timing?.export ? `; export ${duration(manifest.timing.export.seconds)}` : ""}`],
                  ["Size", `${bytes(found.total_bytes)} in ${plural(manifest.disks.length, "disk")}, ${manifest.format}`],
                  ["Bucket", `${manifest.bucket} (${manifest.region})`],
                  ["Manifest", <Out key="m" href={found.manifest_object.url}>{found.manifest_object.key}</Out>],
                  ["Image template", <Out key="t" href={found.template_url}>{`${manifest.template.name} (${String(manifest.template.id)})`}</Out>],
                  ["Run", <RunLink key="r" dag={manifest.run.dag_id} run={manifest.run.run_id} />],
                ]}
              />
            </Section>
            <Section title="Download">
              <Command text={found.download_command} what="the download command" />
              <Text fontSize="sm" color="fg.muted" my={2}>
                Prove it again, by the command line:
              </Text>
              <Command text={found.prove_command} what="the command that proves" />
            </Section>
            <Section title="Disks">
              <Tabled
                label="Disks"
                columns={[{ title: "Disk" }, { title: "Object" }, { title: "Size", right: true }, { title: "Virtual size", right: true }, { title: "Partitions" }, { title: "Proof" }]}
                rows={manifest.disks.map((disk, at) => ({
                  key: disk.key,
                  cells: [
                    `${String(disk.index)} (${disk.device})`,
                    <Out key="o" href={found.disk_objects[at]?.url ?? ""}>{disk.key}</Out>,
                    bytes(disk.size),
                    bytes(disk.virtual_size),
                    disk.partition_table,
                    <StateWord key="p" cell={disk.proof_level} />,
                  ],
                }))}
              />
            </Section>
            <Section title="Proofs">
              <Stack gap={3}>
                {manifest.disks.map((disk) => (
                  <Checks key={disk.key} title={`Disk ${String(disk.index)}, ${disk.proof_level}: read ${bytes(disk.proof_bytes_read)} in ${plural(disk.proof_requests, "request")}`} checks={disk.checks} />
                ))}
                {found.later_proofs.map((proof) => (
                  <Box key={`${proof.made_at} ${proof.made_by}`}>
                    <Text fontWeight="semibold" fontSize="sm">
                      Later, at {moment(proof.made_at)}, {proof.proof_level}, by {proof.made_by}
                    </Text>
                    {proof.disks.map((disk) => (
                      <Checks key={disk.key} title={disk.key} checks={disk.checks ?? []} />
                    ))}
                    {proof.content ? <Checks title="Content" checks={[...proof.content.checks, ...proof.content.remarks]} /> : null}
                  </Box>
                ))}
              </Stack>
            </Section>
            <Section title="Attached storage that is not in the image">
              {storage.length ? (
                <Tabled
                  label="Attached storage that is not in the image"
                  columns={[{ title: "Id" }, { title: "Type" }, { title: "Capacity", right: true }, { title: "Address" }, { title: "Mount" }]}
                  rows={storage.map((one) => ({ key: String(one.id), cells: [String(one.id), one.type ?? "–", one.capacity_gb ? `${String(one.capacity_gb)} GB` : "–", one.address ?? "–", one.mount ?? one.lun_id ?? "–"] }))}
                />
              ) : (
                <Text fontSize="sm">None was attached: the image holds all of the server’s disks.</Text>
              )}
            </Section>
            <Section title="What changed in the configuration">
              <Changes found={found} />
            </Section>
            <Section title="Configuration record" aside={<Out href={found.record_object.url}>{found.record_object.key}</Out>}>
              {found.record ? (
                <details>
                  <summary>Show the record</summary>
                  <code className="sl-code" style={{ whiteSpace: "pre", maxHeight: 480, overflowY: "auto" }} tabIndex={0} aria-label="Configuration record">
                    {JSON.stringify(found.record, null, 2)}
                  </code>
                </details>
              ) : (
                <Text fontSize="sm">It cannot be read.</Text>
              )}
            </Section>
          </Stack>
        );
      }}
    </Shown>
  );
}

function Changes({ found }: { found: ExportDetail }) {
  if (!found.previous_period) return <Text fontSize="sm">There is no earlier export to compare with.</Text>;
  const since = `the export of ${moment(found.previous_captured_at)}`;
  if (!found.changes.length) return <Text fontSize="sm">Nothing, since {since}.</Text>;
  return (
    <>
      <Text fontSize="sm" mb={2}>
        {plural(found.changes.length, "value")} since {since}:
      </Text>
      <Tabled
        label="What changed"
        columns={[{ title: "Where" }, { title: "Before" }, { title: "Now" }]}
        rows={found.changes.map((one) => ({ key: one.path, cells: [one.path, one.before ?? "(not there)", one.after ?? "(gone)"] }))}
      />
    </>
  );
}

function Checks({ title, checks }: { title: string; checks: readonly { id: string; detail: string }[] }) {
  return (
    <details>
      <summary>
        {title} ({plural(checks.length, "check")})
      </summary>
      {checks.length ? (
        <Box as="ul" pl={5} mt={1} fontSize="sm" listStyleType="disc">
          {checks.map((check, at) => (
            <li key={at}>
              {check.id}: {check.detail}
            </li>
          ))}
        </Box>
      ) : (
        <Empty title="No checks">Nothing was checked here.</Empty>
      )}
    </details>
  );
}

function Command({ text, what }: { text: string; what: string }) {
  return (
    <HStack align="start" gap={2}>
      <code className="sl-code" style={{ flex: 1 }}>
        {text}
      </code>
      <Copy text={text} what={what} />
    </HStack>
  );
}
