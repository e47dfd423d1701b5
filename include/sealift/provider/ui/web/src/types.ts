/* The API's models, by the names that its description has. */
import type { components } from "./api.gen";

type Schemas = components["schemas"];

export type Change = Schemas["Change"];
export type Charts = Schemas["Charts"];
export type Coverage = Schemas["Coverage"];
export type Durations = Schemas["Durations"];
export type ExportDetail = Schemas["ExportDetail"];
export type ExportLine = Schemas["ExportLine"];
export type Filters = Schemas["Filters"];
export type PlaceList = Schemas["PlaceList"];
export type PlanLine = Schemas["PlanLine"];
export type PlanList = Schemas["PlanList"];
export type PlannedServer = Schemas["PlannedServer"];
export type PlanView = Schemas["PlanView"];
export type Recovery = Schemas["Recovery"];
export type PreparedRun = Schemas["PreparedRun"];
export type Rights = Schemas["Rights"];
export type ServerLine = Schemas["ServerLine"];
export type ServerView = Schemas["ServerView"];
export type SlotFigures = Schemas["SlotFigures"];
export type SlotSummary = Schemas["SlotSummary"];
export type State = Schemas["State"];
export type TransactionLine = Schemas["TransactionLine"];
export type Transactions = Schemas["Transactions"];
export type WaveLine = Schemas["WaveLine"];
export type WaveList = Schemas["WaveList"];
export type WaveServer = Schemas["WaveServer"];
export type WaveView = Schemas["WaveView"];
