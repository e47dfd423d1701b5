/* What Airflow's page takes from the file: one component. */
import { Page } from "./Page";

export default Page;
