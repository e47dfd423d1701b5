/* The page in Airflow's navigation: which view is open, and of which place. */
import { Box, Heading, HStack, Stack } from "@chakra-ui/react";
import { Component, type ReactNode } from "react";

import { Actions } from "./Actions";
import { ours, useAsked } from "./api";
import { Charts } from "./Charts";
import { Coverage, Select } from "./Coverage";
import { Go, Notice } from "./parts";
import { useWhere, type Where } from "./place";
import { Plan, Plans } from "./Plans";
import { Server, ServerOfWave } from "./Server";
import { STYLE } from "./style";
import type { PlaceList } from "./types";
import { Wave } from "./Wave";

const TABS = [
  ["", "Coverage"],
  ["plans", "Plans"],
  ["charts", "Charts"],
] as const;

/** Which tab a view belongs to. */
const TAB_OF: Record<string, string> = { server: "", plan: "plans", wave: "plans" };

export function Page() {
  const where = useWhere();
  const places = useAsked<PlaceList>(ours("places"), 0);
  const view = where.get("view");
  const tab = TAB_OF[view] ?? view;
  const several = places.data && places.data.places.length > 1 ? places.data.places : undefined;
  return (
    <Box className="sl-page" height="100%" overflowY="auto" p={{ base: 2, md: 4 }}>
      <style>{STYLE}</style>
      <Stack gap={4}>
        <HStack gap={6} flexWrap="wrap" align="end">
          <Heading as="h1" size="lg">
            Exports
          </Heading>
          <HStack as="nav" aria-label="Views" gap={4}>
            {TABS.map(([name, words]) => (
              <Box key={name} fontWeight={tab === name ? "bold" : "normal"} aria-current={tab === name ? "page" : undefined}>
                <Go where={where} to={{ view: name }}>
                  {words}
                </Go>
              </Box>
            ))}
          </HStack>
          <Box flex="1" />
          {several ? (
            <Select
              label="Place"
              value={where.get("place")}
              change={(place) => where.open({ view, place })}
              all={several[0]?.name ?? ""}
              choices={several.slice(1).map((one) => [one.name, one.name])}
            />
          ) : null}
        </HStack>
        <Actions place={where.get("place")}>
          <Guard key={["view", "place", "id", "kind", "plan", "wave"].map(where.get).join("\n")}>
            <View name={view} where={where} />
          </Guard>
        </Actions>
      </Stack>
    </Box>
  );
}

function View({ name, where }: { name: string; where: Where }) {
  switch (name) {
    case "server":
      return where.get("id") ? <Server where={where} /> : <ServerOfWave where={where} />;
    case "plans":
      return <Plans where={where} />;
    case "plan":
      return <Plan where={where} />;
    case "wave":
      return <Wave where={where} />;
    case "charts":
      return <Charts where={where} />;
    default:
      return <Coverage where={where} />;
  }
}

/** Keeps a mistake in one view from taking the page with it. */
class Guard extends Component<{ children: ReactNode }, { words: string }> {
  override state = { words: "" };

  static getDerivedStateFromError(error: unknown) {
    return { words: error instanceof Error ? error.message : String(error) };
  }

  override render() {
    if (!this.state.words) return this.props.children;
    return (
      <Notice status="error" title="This view cannot be shown">
        {`This is a mistake in Sealift; please report it. ${this.state.words}`}
      </Notice>
    );
  }
}
